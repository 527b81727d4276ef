{{ config(materialized='ephemeral') }}

with

orders as (

    select * from {{ ref('stg_orders') }}

),

order_items as (

    select * from {{ ref('stg_order_items') }}

),

products as (

    select * from {{ ref('stg_products') }}

),

lines as (

    select
        order_items.order_id,
        count(*) as line_count,
        sum(order_items.quantity) as unit_count,
        sum(order_items.line_amount) as goods_amount,
        sum(order_items.quantity * products.list_price) as list_amount,
        sum(order_items.quantity * products.unit_cost) as cost_amount
    from order_items
    inner join products
        on order_items.product_id = products.product_id
    group by order_items.order_id

)

select
    orders.order_id,
    lines.line_count,
    cast(lines.unit_count as bigint) as unit_count,
    cast(lines.goods_amount as decimal(12, 2)) as goods_amount,
    cast(lines.list_amount - lines.goods_amount as decimal(12, 2)) as discount_amount,
    cast(lines.cost_amount as decimal(12, 2)) as cost_amount,
    orders.shipping_fee,
    cast(lines.goods_amount + orders.shipping_fee as decimal(12, 2)) as order_total
from orders
inner join lines
    on orders.order_id = lines.order_id
