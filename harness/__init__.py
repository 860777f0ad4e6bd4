"""What a run under load has shown: its raw results, its pictures, its pages; no test framework."""
