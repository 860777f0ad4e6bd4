NAME = "falcon"
