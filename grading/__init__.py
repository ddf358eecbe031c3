"""Make assignments from master notebooks, and grade what students hand in: see book/teach.md.

otter-grader makes the student notebooks and defines the format of tests and of autograder zips. Submissions are run by
`driver`, under limits that otter does not set, with the tests brought in after the student's last cell, and whatever
Colab has made of the metadata. On the same zip, `otter run` gives the same points (tests/grading holds it to that).
"""
