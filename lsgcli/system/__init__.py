"""The machine: files, devices, memory, processors, and the place of this process among others."""
