NAME = "flask"
