NAME = "fastapi"
