"""A shop: Flask, SQLAlchemy, a search, and a cart in the session."""

from decimal import Decimal
from pathlib import Path

from flask import Flask, abort, g, redirect, render_template, request, session, url_for
from sqlalchemy import ForeignKey, Numeric, create_engine, or_, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
)

HERE = Path(__file__).parent

application = Flask(__name__)
application.secret_key = "of a benchmark, and of no other use"  # noqa: S105
engine = create_engine(f"sqlite:///{HERE}/shop.sqlite3")


class Base(DeclarativeBase):
    """All tables."""


class Shelf(Base):
    """Where products lie."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    products: Mapped[list["Product"]] = relationship(back_populates="shelf")


class Product(Base):
    """What is sold."""

    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"), index=True)
    name: Mapped[str]
    about: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2, asdecimal=False))
    stock: Mapped[int]
    shelf: Mapped[Shelf] = relationship(back_populates="products")


@application.before_request
def connect():
    """Open the request's session of the database."""
    g.database = Session(engine)


@application.teardown_request
def disconnect(_error):
    """Give the connection back."""
    g.database.close()


@application.context_processor
def cart_size():
    """Tell every page what is in the cart."""
    return {"in_cart": sum(session.get("cart", {}).values())}


@application.get("/")
def index():
    """Show the shelves."""
    query = select(Shelf).options(joinedload(Shelf.products)).order_by(Shelf.name)
    return render_template("index.html", shelves=g.database.scalars(query).unique().all())


@application.get("/search")
def search():
    """Find products by words of their name or description."""
    words = request.args.get("words", "")
    query = select(Product).options(joinedload(Product.shelf)).order_by(Product.price)
    for word in words.split():
        query = query.where(or_(Product.name.contains(word), Product.about.contains(word)))
    found = g.database.scalars(query.limit(20)).all()
    return render_template("search.html", words=words, found=found)


@application.get("/product/<int:number>")
def product(number):
    """Show one product, and its neighbours on the shelf."""
    found = g.database.get(Product, number) or abort(404)
    return render_template("product.html", product=found, beside=found.shelf.products[:5])


@application.post("/cart")
def put():
    """Put a product into the cart."""
    cart = session.setdefault("cart", {})
    number = request.form["product"]
    cart[number] = min(99, cart.get(number, 0) + 1)
    session.modified = True
    return redirect(url_for("cart"))


@application.get("/cart")
def cart():
    """Show what is in the cart, and what it costs."""
    wanted = session.get("cart", {"1": 1, "7": 2})
    query = select(Product).where(Product.id.in_(int(number) for number in wanted))
    lines = [(one, wanted[str(one.id)]) for one in g.database.scalars(query)]
    total = sum(one.price * count for one, count in lines)
    return render_template("cart.html", lines=lines, total=total)


def prepare():
    """Make the database, with a hundred products."""
    Base.metadata.create_all(engine)
    with Session(engine) as database:
        for name in ("tea", "bread", "paper", "soap", "lamps"):
            shelf = Shelf(name=name)
            for number in range(20):
                shelf.products.append(
                    Product(
                        name=f"{name} no. {number}",
                        about=f"The {number}th kind of {name}, from the north. " * 4,
                        price=3 + number / 4,
                        stock=number,
                    )
                )
            database.add(shelf)
        database.commit()


if __name__ == "__main__":
    prepare()
