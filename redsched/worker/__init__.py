"""The worker: claims runs, executes them, settles them."""
