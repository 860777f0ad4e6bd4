NAME = "django"
