"""The lesson: its pages, its pictures, and the program that draws the pictures.

recording.py  runs the programs of examples/lesson, and records what their threads do
pictures.py   puts the recorded events in order, and draws them as `gochat trace` draws a trace
"""
