NAME = "pyramid"
