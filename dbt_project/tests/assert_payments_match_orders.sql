{{ config(meta={'dagster': {'ref': {'name': 'fct_orders'}}}) }}

-- A completed order is paid in full and nothing was paid back.
with

orders as (

    select * from {{ ref('fct_orders') }}

),

order_payments as (

    select * from {{ ref('int_order_payments') }}

)

select
    orders.order_id,
    orders.order_total,
    order_payments.net_paid_amount
from orders
left join order_payments
    on orders.order_id = order_payments.order_id
where
    orders.order_status = 'completed'
    and orders.order_total is distinct from order_payments.net_paid_amount
