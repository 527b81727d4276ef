{{
    config(
        materialized='incremental',
        unique_key='order_id',
        incremental_strategy='delete+insert',
        on_schema_change='append_new_columns',
        tags=['daily']
    )
}}

with

orders as (

    select * from {{ ref('stg_orders') }}

    {% if is_incremental() %}
    -- A status change or a refund sends the order through the next extract, where it replaces
    -- the old row. The last extract is read again, for it may have arrived in two parts.
    where
        loaded_at >= (
            select coalesce(max(loaded_at), timestamp '1970-01-01 00:00:00') from {{ this }}
        )
    {% endif %}

),

stores as (

    select * from {{ ref('stg_stores') }}

),

order_amounts as (

    select * from {{ ref('int_order_amounts') }}

),

order_payments as (

    select * from {{ ref('int_order_payments') }}

)

select
    orders.order_id,
    orders.customer_id,
    orders.store_id,
    stores.channel as sales_channel,
    orders.order_status,
    orders.order_status in ('shipped', 'completed', 'returned') as is_revenue,
    orders.ordered_at,
    orders.order_date,
    order_amounts.line_count,
    order_amounts.unit_count,
    order_amounts.goods_amount,
    order_amounts.discount_amount,
    order_amounts.shipping_fee,
    order_amounts.order_total,
    order_amounts.cost_amount,
    coalesce(order_payments.paid_amount, 0) as paid_amount,
    coalesce(order_payments.refunded_amount, 0) as refunded_amount,
    order_payments.main_payment_method,
    orders.updated_at,
    orders.loaded_at
from orders
inner join stores
    on orders.store_id = stores.store_id
inner join order_amounts
    on orders.order_id = order_amounts.order_id
left join order_payments
    on orders.order_id = order_payments.order_id
