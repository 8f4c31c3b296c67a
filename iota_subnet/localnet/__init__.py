"""A whole subnet on this machine: chain, wallets, validator, miners, a view of it, and a summary at the end."""
