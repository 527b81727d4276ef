{{ config(tags=['daily', 'finance'], group='finance') }}

with

orders as (

    select * from {{ ref('fct_orders') }}

),

daily as (

    select
        order_date as revenue_date,
        count(*) as order_count,
        cast(sum(unit_count) as bigint) as unit_count,
        cast(sum(order_total) as decimal(12, 2)) as gross_revenue,
        cast(sum(refunded_amount) as decimal(12, 2)) as refunded_amount,
        cast(sum(order_total - refunded_amount) as decimal(12, 2)) as net_revenue,
        cast(
            coalesce(sum(order_total - refunded_amount) filter (where sales_channel = 'online'), 0)
            as decimal(12, 2)
        ) as online_net_revenue
    from orders
    where is_revenue
    group by order_date

)

select
    revenue_date,
    order_count,
    unit_count,
    gross_revenue,
    refunded_amount,
    net_revenue,
    online_net_revenue,
    cast(net_revenue - online_net_revenue as decimal(12, 2)) as shop_net_revenue,
    cast(gross_revenue / order_count as decimal(12, 2)) as average_order_value,
    cast(
        sum(net_revenue) over (
            order by revenue_date
            range between interval 6 days preceding and current row
        ) as decimal(12, 2)
    ) as net_revenue_last_7_days
from daily
