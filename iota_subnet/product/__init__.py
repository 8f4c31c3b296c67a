"""The trained model is the product: looking at it, keeping it, measuring it, taking it home. Imports nothing."""
