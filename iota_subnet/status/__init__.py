"""`iota status`: what the neurons of this machine, or a validator elsewhere, do and wait for."""
