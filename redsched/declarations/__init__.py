"""Jobs that the code declares: how `start` makes what is stored agree with them."""
