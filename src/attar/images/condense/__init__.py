"""Ways to make a few images stand for many, one paper a file."""
