"""Other packages' ways to use redsched. Each module needs the extra that its docstring names, and nothing imports it
for you.
"""
