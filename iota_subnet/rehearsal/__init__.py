"""A whole swarm in one thread: the real core, real tensors, the miners' real conduct, and a clock that only counts."""
