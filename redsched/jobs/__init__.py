"""What a job is: as it is described, checked, stored and shown."""
