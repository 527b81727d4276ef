{{ config(tags=['finance'], group='finance') }}

with

products as (

    select * from {{ ref('dim_products') }}

),

order_items as (

    select * from {{ ref('stg_order_items') }}

),

orders as (

    select * from {{ ref('fct_orders') }}

),

sales as (

    select
        order_items.product_id,
        count(distinct orders.order_id) as order_count,
        count(distinct orders.order_id) filter (
            where orders.order_status = 'returned'
        ) as returned_order_count,
        sum(order_items.quantity) as units_sold,
        sum(order_items.line_amount) as gross_sales
    from order_items
    inner join orders
        on order_items.order_id = orders.order_id
    where orders.is_revenue
    group by order_items.product_id

),

per_product as (

    select
        products.product_id,
        products.product_name,
        products.category,
        coalesce(sales.order_count, 0) as order_count,
        coalesce(sales.returned_order_count, 0) as returned_order_count,
        cast(coalesce(sales.units_sold, 0) as bigint) as units_sold,
        cast(coalesce(sales.gross_sales, 0) as decimal(12, 2)) as gross_sales,
        cast(coalesce(sales.units_sold * products.unit_cost, 0) as decimal(12, 2)) as cost_of_goods
    from products
    left join sales
        on products.product_id = sales.product_id

)

select
    product_id,
    product_name,
    category,
    order_count,
    returned_order_count,
    units_sold,
    gross_sales,
    cost_of_goods,
    cast(gross_sales - cost_of_goods as decimal(12, 2)) as gross_margin,
    cast(
        (gross_sales - cost_of_goods) / nullif(gross_sales, 0) as decimal(6, 4)
    ) as gross_margin_rate,
    rank() over (partition by category order by gross_sales desc) as rank_in_category
from per_product
