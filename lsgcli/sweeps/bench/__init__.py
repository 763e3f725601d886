"""Speed and memory of lsg and of others on this machine.

``cases`` defines what is measured. Each contender builds its network in a process of its own (``contender``, with ``steps``, ``peers`` and
``library``), which ``workers`` starts; ``race`` measures training and inference in turns, ``streaming`` single timesteps. ``checking`` looks at
what the networks compute, ``measuring`` has the statistics. ``rows`` combines all of it for ``lsg bench``.
"""
