"""Generate the sample data of the retail-orders data product.

The script writes the dbt seeds (``seeds/``) and the raw shop extracts (``data/``).
It uses nothing but the standard library and a fixed seed, so every run gives
byte-identical files::

    python scripts/generate_data.py
"""

# The numbers below are the business itself: shares, seasons and prices.
# ruff: noqa: PLR2004, S311, SIM905, T201

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SEED = 20261031
FIRST_DAY = date(2025, 5, 1)
LAST_DAY = date(2026, 10, 31)
CUSTOMER_COUNT = 600
ORDER_COUNT = 4000
FIRST_ORDER_ID = 1001
SHIPPING_CENTS = 590
FREE_SHIPPING_FROM_CENTS = 7500
ONLINE_STORE_ID = 1

PROJECT_DIR = Path(__file__).resolve().parent.parent

FIRST_NAMES = (
    "Ada Alma Amos Anya Basil Bela Bram Cleo Cora Dario Delia Edda Eli Elsa Enzo Esme Ezra Fay "
    "Finn Flora Greta Hana Hugo Ida Inez Ivan Iris Jonas June Kai Kira Lena Leon Lina Lou Mara "
    "Marlo Mila Milo Nadia Nell Nico Noor Oda Olga Omar Otis Pia Quinn Rafa Remy Rosa Ruben Saul "
    "Selma Sven Tess Theo Uma Vera Viggo Wanda Willa Yara Yusuf Zeno Zoe"
).split()
LAST_NAMES = (
    "Abernall Ashgrove Bellwick Birchard Blackmoor Bramley Caldergate Carrow Coldwell Corvane "
    "Dallimore Darnley Eastmere Elmswood Fairlock Fenwright Fosterly Galbrook Garrowby Glenmore "
    "Hallowell Harkwood Hazelton Holbrand Ingleby Ironside Jarvinen Kestrelle Kingsley Lambrook "
    "Larkmoor Lindqvist Lowther Marchetti Marwood Millbrae Nettleton Norcross Oakhurst Ostrander "
    "Penhallow Pickering Quayle Ravensdale Redfern Rosewarne Sandoval Selwyn Stonebridge "
    "Tamsworth Thornbury Underhill Valemont Vandermeer Wainwright Westerby Whitlock Winterbourne "
    "Yarrow Zellweg"
).split()

CHANNELS = {"organic": 30, "paid_search": 22, "social": 18, "email": 12, "referral": 10, "shop": 8}

# store_id, store_name, city, state, channel, opened_on, floor_area_sqm
STORES = [
    (1, "Harbor & Pine Online", "Portland", "ME", "online", date(2019, 3, 1), None),
    (2, "Portland Old Port", "Portland", "ME", "shop", date(2016, 5, 14), 240),
    (3, "Portsmouth Market Square", "Portsmouth", "NH", "shop", date(2017, 9, 2), 180),
    (4, "Boston South End", "Boston", "MA", "shop", date(2018, 4, 21), 310),
    (5, "Cambridge Inman", "Cambridge", "MA", "shop", date(2019, 10, 5), 205),
    (6, "Providence Wickenden", "Providence", "RI", "shop", date(2020, 9, 12), 190),
    (7, "Burlington Church Street", "Burlington", "VT", "shop", date(2021, 6, 19), 165),
    (8, "New Haven Chapel", "New Haven", "CT", "shop", date(2022, 3, 26), 175),
    (9, "Hudson Warren Street", "Hudson", "NY", "shop", date(2023, 5, 6), 150),
    (10, "Brooklyn Cobble Hill", "Brooklyn", "NY", "shop", date(2024, 4, 13), 280),
    (11, "Northampton Main", "Northampton", "MA", "shop", date(2025, 9, 6), 140),
    (12, "Beacon Riverside", "Beacon", "NY", "shop", date(2026, 4, 18), 155),
]

OTHER_CITIES = [
    ("Albany", "US"),
    ("Bangor", "US"),
    ("Concord", "US"),
    ("Hartford", "US"),
    ("Montpelier", "US"),
    ("Philadelphia", "US"),
    ("Pittsburgh", "US"),
    ("Springfield", "US"),
    ("Syracuse", "US"),
    ("Worcester", "US"),
    ("Halifax", "CA"),
    ("Montreal", "CA"),
    ("Ottawa", "CA"),
]

# category: (share of the list price that is cost, [(product name, list price in cents), ...])
CATALOG: dict[str, tuple[float, list[tuple[str, int]]]] = {
    "kitchen": (
        0.46,
        [
            ("Enamel Mug", 1450),
            ("Cast Iron Skillet", 4900),
            ("Olive Wood Board", 3800),
            ("Linen Tea Towels, Set of 3", 2400),
            ("Stoneware Bowl", 1950),
            ("Pour-Over Kettle", 6900),
            ("Salt Cellar", 1600),
            ("Bread Knife", 4200),
            ("Glass Carafe", 2900),
            ("Maple Rolling Pin", 2600),
            ("Copper Measuring Cups", 3400),
            ("Pepper Mill", 3900),
        ],
    ),
    "home": (
        0.42,
        [
            ("Wool Throw", 8900),
            ("Beeswax Candle", 1800),
            ("Ceramic Vase", 4600),
            ("Linen Cushion", 4400),
            ("Jute Doormat", 3200),
            ("Oak Picture Frame", 2700),
            ("Brass Wall Hook", 1500),
            ("Storage Basket", 3600),
            ("Table Lamp", 11900),
            ("Hand-Knotted Runner", 18900),
            ("Wall Clock", 6400),
            ("Quilted Bedspread", 16900),
        ],
    ),
    "outdoor": (
        0.51,
        [
            ("Canvas Tote", 2800),
            ("Steel Water Bottle", 2600),
            ("Camp Lantern", 5400),
            ("Picnic Blanket", 6200),
            ("Folding Camp Stool", 4800),
            ("Trail Knife", 5900),
            ("Waxed Rain Hat", 4500),
            ("Insulated Flask", 3400),
            ("Canvas Tent, 2 Person", 28900),
            ("Cedar Fire Starters", 1200),
            ("Dry Bag, 20 l", 3900),
            ("Hammock", 7900),
        ],
    ),
    "garden": (
        0.44,
        [
            ("Hand Trowel", 1900),
            ("Pruning Shears", 3400),
            ("Terracotta Planter", 2200),
            ("Watering Can", 3900),
            ("Seed Collection, Herbs", 950),
            ("Seed Collection, Flowers", 950),
            ("Garden Gloves", 1700),
            ("Raised Bed Kit", 12900),
            ("Bird Feeder", 3100),
            ("Kneeling Pad", 2100),
        ],
    ),
    "paper": (
        0.35,
        [
            ("Dotted Notebook", 1400),
            ("Letterpress Cards, Set of 6", 1600),
            ("Wall Calendar", 2200),
            ("Fountain Pen", 3600),
            ("Pencil Tin", 1250),
            ("Gift Wrap Roll", 900),
            ("Desk Planner", 2400),
        ],
    ),
    "pantry": (
        0.58,
        [
            ("Maple Syrup, 500 ml", 2100),
            ("Wildflower Honey", 1350),
            ("Sea Salt Flakes", 850),
            ("Coffee Beans, 1 lb", 1750),
            ("Loose Leaf Tea", 1250),
            ("Blueberry Jam", 950),
            ("Chili Crisp", 1150),
        ],
    ),
}
NEW_PRODUCTS = {
    "Hand-Knotted Runner": date(2025, 9, 1),
    "Canvas Tent, 2 Person": date(2026, 3, 15),
    "Desk Planner": date(2025, 10, 1),
    "Chili Crisp": date(2026, 1, 10),
    "Hammock": date(2025, 5, 20),
}
DISCONTINUED = {"Trail Knife", "Wall Clock", "Pencil Tin"}

# Demand by month: spring and the weeks before the holidays are strong.
MONTH_WEIGHT = {
    1: 0.72,
    2: 0.70,
    3: 0.86,
    4: 1.00,
    5: 1.10,
    6: 1.05,
    7: 0.95,
    8: 0.90,
    9: 0.98,
    10: 1.05,
    11: 1.45,
    12: 1.70,
}
# Monday to Sunday
WEEKDAY_WEIGHT = (0.80, 0.78, 0.85, 0.95, 1.20, 1.55, 1.15)
CATEGORY_SEASON = {
    "garden": {3: 1.8, 4: 2.4, 5: 2.2, 6: 1.6, 11: 0.4, 12: 0.3, 1: 0.4},
    "outdoor": {5: 1.4, 6: 1.8, 7: 1.9, 8: 1.6, 1: 0.6, 2: 0.6},
    "paper": {11: 1.7, 12: 2.2, 1: 1.3},
    "pantry": {11: 1.4, 12: 1.7},
    "home": {10: 1.2, 11: 1.4, 12: 1.5},
    "kitchen": {11: 1.3, 12: 1.6},
}


@dataclass(frozen=True)
class Customer:
    """A customer account; ``activity`` is its weight among the buyers of a day."""

    customer_id: int
    first_name: str
    last_name: str
    email: str
    city: str
    country_code: str
    signup_date: date
    marketing_channel: str
    is_newsletter_subscriber: bool
    activity: float


@dataclass(frozen=True)
class Product:
    """A product; cost and price in cents, ``popularity`` is its weight among the products."""

    product_id: int
    sku: str
    product_name: str
    category: str
    unit_cost: int
    list_price: int
    launched_on: date
    is_active: bool
    popularity: float


def money(cents: int) -> str:
    """Render an amount of cents as a decimal number with two places."""
    return f"{cents // 100}.{cents % 100:02d}"


def weighted(rng: Random, weights: dict[str, int]) -> str:
    """Pick one of the keys by weight."""
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def shop_hours(rng: Random, day: date) -> datetime:
    """A moment of the day on which customers buy (UTC, before the nightly extract)."""
    return datetime.combine(day, time(13)) + timedelta(seconds=rng.randrange(10 * 3600))


def loaded_at(moment: datetime) -> datetime:
    """The nightly extract that first carries a change made at ``moment``."""
    return datetime.combine(moment.date(), time(23, 30))


def make_customers(rng: Random) -> list[Customer]:
    """Invent the customer accounts; two thirds live in a city with a shop."""
    shop_cities = [(city, "US") for _, _, city, _, channel, _, _ in STORES if channel == "shop"]
    first_signup = date(2024, 1, 5)
    # Sorted, so that customer ids follow the signup date.
    span = (LAST_DAY - first_signup).days
    signups = sorted(first_signup + timedelta(days=rng.randrange(span)) for _ in range(CUSTOMER_COUNT))
    customers = []
    seen: dict[str, int] = {}
    for customer_id, signup_date in enumerate(signups, start=1):
        first_name = rng.choice(FIRST_NAMES)
        last_name = rng.choice(LAST_NAMES)
        mailbox = f"{first_name}.{last_name}".lower()
        seen[mailbox] = seen.get(mailbox, 0) + 1
        if seen[mailbox] > 1:
            mailbox = f"{mailbox}{seen[mailbox]}"
        city, country_code = rng.choice(shop_cities if rng.random() < 0.68 else OTHER_CITIES)
        customers.append(
            Customer(
                customer_id=customer_id,
                first_name=first_name,
                last_name=last_name,
                email=f"{mailbox}@example.com",
                city=city,
                country_code=country_code,
                signup_date=signup_date,
                marketing_channel=weighted(rng, CHANNELS),
                is_newsletter_subscriber=rng.random() < 0.57,
                activity=0.0 if rng.random() < 0.07 else min(rng.paretovariate(1.7), 12.0),
            )
        )
    return customers


def make_products(rng: Random) -> list[Product]:
    """Turn the catalog into products with a cost and a launch date."""
    products: list[Product] = []
    for category, (cost_share, entries) in CATALOG.items():
        for number, (product_name, list_price) in enumerate(entries, start=1):
            default_launch = date(2019, 1, 7) + timedelta(days=7 * rng.randrange(300))
            # Cheap products sell more often than expensive ones.
            popularity = rng.uniform(0.5, 1.6) * (3000 / list_price) ** 0.45
            products.append(
                Product(
                    product_id=len(products) + 1,
                    sku=f"{category[:3].upper()}-{number:03d}",
                    product_name=product_name,
                    category=category,
                    unit_cost=round(list_price * (cost_share + rng.uniform(-0.06, 0.06))),
                    list_price=list_price,
                    launched_on=NEW_PRODUCTS.get(product_name, default_launch),
                    is_active=product_name not in DISCONTINUED,
                    popularity=popularity,
                )
            )
    return products


def order_days(rng: Random) -> list[date]:
    """Spread the orders over the days: season, weekday and a growing business."""
    days = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    weights = [
        MONTH_WEIGHT[day.month] * WEEKDAY_WEIGHT[day.weekday()] * (1 + 0.30 * index / len(days))
        for index, day in enumerate(days)
    ]
    return sorted(rng.choices(days, weights=weights, k=ORDER_COUNT))


def pick_store(rng: Random, customer: Customer, day: date) -> int:
    """Most customers visit the shop of their city, the others order online."""
    open_shops = [row for row in STORES if row[4] == "shop" and row[5] <= day]
    local = [row[0] for row in open_shops if row[2] == customer.city]
    roll = rng.random()
    if local and roll < 0.72:
        return rng.choice(local)
    if not local and roll < 0.12 and customer.country_code == "US":
        return rng.choice(open_shops)[0]
    return ONLINE_STORE_ID


def pick_products(rng: Random, products: Sequence[Product], day: date, count: int) -> list[Product]:
    """Pick different products that are on sale on the day."""
    on_sale = [product for product in products if product.launched_on <= day]
    weights = [product.popularity * CATEGORY_SEASON[product.category].get(day.month, 1.0) for product in on_sale]
    chosen: dict[int, Product] = {}
    while len(chosen) < count:
        product = rng.choices(on_sale, weights=weights)[0]
        chosen[product.product_id] = product
    return list(chosen.values())


def unit_price(rng: Random, product: Product, day: date) -> int:
    """The price charged: the list price, less a seasonal sale or a small voucher."""
    percent = 0
    if day.month == 11 and day.day >= 24:
        percent = 20
    elif day.month == 7 and product.category in {"garden", "outdoor"}:
        percent = 15
    elif day.month == 1 and product.category in {"home", "paper"}:
        percent = 25
    elif rng.random() < 0.06:
        percent = 10
    return round(product.list_price * (100 - percent) / 100)


def pick_status(rng: Random, *, online: bool, age_days: int) -> str:
    """The status an order has reached on the last day."""
    if online and age_days <= 3:
        return "cancelled" if rng.random() < 0.04 else "placed"
    if online and age_days <= 9:
        return "cancelled" if rng.random() < 0.04 else "shipped"
    roll = rng.random()
    if roll < (0.055 if online else 0.008):
        return "cancelled"
    if age_days > 10 and roll < (0.125 if online else 0.045):
        return "returned"
    return "completed"


def split_total(rng: Random, total: int, *, online: bool) -> list[tuple[str, int]]:
    """Split an order total into one or two payments."""
    methods = {"card": 70, "wallet": 30} if online else {"card": 68, "cash": 20, "wallet": 12}
    method = weighted(rng, methods)
    if total > 2500 and rng.random() < 0.06:
        voucher = 500 * rng.randint(1, min(10, total // 500 - 1))
        return [("gift_card", voucher), (method, total - voucher)]
    return [(method, total)]


def make_sales(
    rng: Random, customers: Sequence[Customer], products: Sequence[Product]
) -> tuple[list[list[object]], list[list[object]], list[list[object]]]:
    """Orders, order items and payments, in the order in which they happen."""
    orders: list[list[object]] = []
    items: list[list[object]] = []
    payments: list[tuple[datetime, int, str, str, int]] = []

    moments = sorted(shop_hours(rng, day) for day in order_days(rng))
    for order_id, ordered_at in enumerate(moments, start=FIRST_ORDER_ID):
        day = ordered_at.date()
        eligible = [customer for customer in customers if customer.signup_date <= day]
        customer = rng.choices(eligible, weights=[each.activity for each in eligible])[0]
        store_id = pick_store(rng, customer, day)
        online = store_id == ONLINE_STORE_ID

        goods = 0
        line_count = rng.choices((1, 2, 3, 4, 5), weights=(36, 28, 19, 11, 6))[0]
        for product in pick_products(rng, products, day, line_count):
            quantity = rng.choices((1, 2, 3, 4), weights=(79, 15, 4, 2))[0]
            price = unit_price(rng, product, day)
            goods += quantity * price
            items.append(
                [
                    len(items) + 1,
                    order_id,
                    product.product_id,
                    quantity,
                    money(price),
                    loaded_at(ordered_at),
                ]
            )
        shipping = SHIPPING_CENTS if online and goods < FREE_SHIPPING_FROM_CENTS else 0
        total = goods + shipping

        age_days = (LAST_DAY - day).days
        status = pick_status(rng, online=online, age_days=age_days)
        updated_at = ordered_at

        # A cancelled order was often never paid; a placed order may still wait for its payment.
        unpaid = (status == "cancelled" and rng.random() < 0.6) or (status == "placed" and rng.random() < 0.3)
        method = "card"
        if not unpaid:
            for method, amount in split_total(rng, total, online=online):
                payments.append((ordered_at, order_id, "payment", method, amount))

        if status == "cancelled":
            updated_at = ordered_at + timedelta(minutes=rng.randrange(5, 30))
            if not unpaid:
                payments.append((updated_at, order_id, "refund", method, total))
        elif status == "shipped":
            updated_at = shop_hours(rng, day + timedelta(days=rng.randint(1, 3)))
        elif status == "completed" and online:
            updated_at = shop_hours(rng, day + timedelta(days=rng.randint(3, 9)))
        elif status == "returned":
            updated_at = shop_hours(rng, day + timedelta(days=rng.randint(6, min(30, age_days))))
            partly = rng.random() < 0.25
            refund = goods if not partly else round(goods * rng.choice((30, 50, 60)) / 100)
            payments.append((updated_at, order_id, "refund", method, refund))

        orders.append(
            [
                order_id,
                customer.customer_id,
                store_id,
                status,
                ordered_at,
                money(shipping),
                updated_at,
                loaded_at(updated_at),
            ]
        )

    payments.sort()
    payment_rows: list[list[object]] = [
        [payment_id, order_id, kind, method, money(amount), paid_at, loaded_at(paid_at)]
        for payment_id, (paid_at, order_id, kind, method, amount) in enumerate(payments, start=1)
    ]
    return orders, items, payment_rows


def write_csv(relative_path: str, header: str, rows: Iterable[Sequence[object]]) -> None:
    """Write rows under a header of space-separated column names."""
    path = PROJECT_DIR / relative_path
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header.split())
        for row in rows:
            writer.writerow(row)
            count += 1
    print(f"{relative_path}: {count} rows")


def main() -> None:
    """Write all files."""
    rng = Random(SEED)
    customers = make_customers(rng)
    products = make_products(rng)
    orders, items, payments = make_sales(rng, customers, products)

    write_csv(
        "seeds/customers.csv",
        "customer_id first_name last_name email city country_code signup_date"
        " marketing_channel is_newsletter_subscriber",
        (
            (
                c.customer_id,
                c.first_name,
                c.last_name,
                c.email,
                c.city,
                c.country_code,
                c.signup_date,
                c.marketing_channel,
                str(c.is_newsletter_subscriber).lower(),
            )
            for c in customers
        ),
    )
    write_csv(
        "seeds/products.csv",
        "product_id sku product_name category unit_cost list_price launched_on is_active",
        (
            (
                p.product_id,
                p.sku,
                p.product_name,
                p.category,
                money(p.unit_cost),
                money(p.list_price),
                p.launched_on,
                str(p.is_active).lower(),
            )
            for p in products
        ),
    )
    write_csv(
        "seeds/stores.csv",
        "store_id store_name city state channel opened_on floor_area_sqm",
        STORES,
    )
    write_csv(
        "data/orders.csv",
        "order_id customer_id store_id status ordered_at shipping_fee updated_at loaded_at",
        orders,
    )
    write_csv(
        "data/order_items.csv",
        "order_item_id order_id product_id quantity unit_price loaded_at",
        items,
    )
    write_csv(
        "data/payments.csv",
        "payment_id order_id payment_kind payment_method amount paid_at loaded_at",
        payments,
    )


if __name__ == "__main__":
    main()
