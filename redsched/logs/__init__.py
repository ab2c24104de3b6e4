"""How log lines look, and how text from elsewhere is made safe to print."""
