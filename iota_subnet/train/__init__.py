"""What a miner computes, bytes in and bytes out. Imports nothing; take what you need from the submodules."""
