"""Ask by experiment: run a script again with one change, and compare. Open this folder to add a change, or to alter what counts as learning."""
