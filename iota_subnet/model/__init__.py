"""The language model, cut into stages. Imports nothing; take what you need from the submodules."""
