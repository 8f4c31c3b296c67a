"""Other people's all-reduce, each in processes of its own, under one way of being led."""
