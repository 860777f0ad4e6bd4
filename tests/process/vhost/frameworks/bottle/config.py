NAME = "bottle"
