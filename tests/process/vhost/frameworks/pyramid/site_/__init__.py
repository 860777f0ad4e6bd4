"""The site: views are found by a scan of this package."""

from pyramid.config import Configurator


def main(_global, **settings):
    with Configurator(settings=settings) as configurator:
        for name in ("page", "form", "where", "fail"):
            configurator.add_route(name, "/" if name == "page" else f"/{name}")
        configurator.scan(".views")
        return configurator.make_wsgi_app()
