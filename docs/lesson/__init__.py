"""The lesson: its pages, its pictures, and the program that draws the pictures.

pictures.py  runs the programs of examples/lesson, and records what their threads do
timeline.py  draws the threads, as lines through time
"""
