with

orders as (

    select * from {{ ref('stg_orders') }}

),

order_amounts as (

    select * from {{ ref('int_order_amounts') }}

),

order_payments as (

    select * from {{ ref('int_order_payments') }}

),

sales as (

    select
        orders.customer_id,
        orders.order_id,
        orders.order_status,
        orders.ordered_at,
        order_amounts.unit_count,
        case
            when orders.order_status in ('shipped', 'completed', 'returned')
                then order_amounts.order_total - coalesce(order_payments.refunded_amount, 0)
            else 0
        end as net_revenue
    from orders
    inner join order_amounts
        on orders.order_id = order_amounts.order_id
    left join order_payments
        on orders.order_id = order_payments.order_id

)

select
    customer_id,
    count(*) as order_count,
    count(*) filter (where order_status = 'returned') as returned_order_count,
    count(*) filter (where order_status = 'cancelled') as cancelled_order_count,
    min(ordered_at) as first_ordered_at,
    max(ordered_at) as last_ordered_at,
    cast(sum(unit_count) as bigint) as unit_count,
    cast(sum(net_revenue) as decimal(12, 2)) as net_revenue
from sales
group by customer_id
