"""How a task is called: on the event loop, in a thread, in a child process, or by an executor of the user."""
