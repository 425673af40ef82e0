"""What every face of the client does, told once: a test here runs on each, and is not to know on which."""
