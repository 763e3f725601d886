"""Races of lsg with other libraries: contenders, their processes, and what they measure.

``cases`` defines what is measured. Each contender builds its network in a process of its own (``contender``, with ``steps``, ``peers`` and
``library``), which ``workers`` starts; ``race`` measures training and inference in turns, ``streaming`` single timesteps. ``checking`` looks at
what the networks compute, ``measuring`` has the statistics. ``lsg bench`` compares lsg with itself, see ``lsgcli.sweeps.bench``.
"""
