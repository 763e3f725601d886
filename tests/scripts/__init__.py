"""Training scripts of several libraries, in which tests plant faults by replacing text."""
