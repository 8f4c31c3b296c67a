"""The orchestrator as one synchronous state machine: event in, list of actions out.

Nothing here reads a clock, draws a random number, does I/O, logs or touches a tensor. Time is a field of the event,
chance is a hash (`draw`), failure is an event. The same code runs in production, in tests and in a replay.
"""
