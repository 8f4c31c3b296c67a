"""`iota doctor`: whether this machine, this wallet and this subnet are ready, before anything is joined.

Law: nothing is changed and nothing is spent. Every line says that something is well, or what to do about it.
"""
