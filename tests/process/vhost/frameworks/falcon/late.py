import config

NAME = config.NAME
