"""What the rooms that explain a model raise."""


class UnsupportedOperation(NotImplementedError):
    """A method has no meaning or no rule for an operation of the network; the message names it."""
