"""The usual mistakes, a file or a folder for each package, a row for each mistake.

A row says in which file it is made, its name, the text that is right and the text that is wrong.
"""
