"""What is released: the built wheel and the data of the releases before, opened by this one."""
