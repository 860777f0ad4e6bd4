"""What Ansible calls back in the runs of the tests."""
