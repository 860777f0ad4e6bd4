"""crawler_report and robots: who visits a site, and what a robots.txt tells each crawler.

Not on the super-daemon's import path, and so the one package here that needs libraries: those of
`pip install 'kechi-vps[crawlers]'`.
"""
