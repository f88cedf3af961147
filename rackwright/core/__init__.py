"""Claims, the diff function, and the interface of a kind; imports no kind."""
