{{ config(tags=['finance'], group='finance') }}

with

customers as (

    select * from {{ ref('dim_customers') }}

),

customer_orders as (

    select * from {{ ref('int_customer_orders') }}

),

buyers as (

    select
        customers.customer_id,
        customers.marketing_channel,
        customers.country_code,
        cast(date_trunc('month', customer_orders.first_ordered_at) as date) as cohort_month,
        customer_orders.order_count,
        customer_orders.net_revenue,
        cast(
            customer_orders.net_revenue / customer_orders.order_count as decimal(12, 2)
        ) as revenue_per_order,
        date_diff(
            'day', customer_orders.first_ordered_at, customer_orders.last_ordered_at
        ) as active_days
    from customers
    inner join customer_orders
        on customers.customer_id = customer_orders.customer_id

),

ranked as (

    select
        customer_id,
        marketing_channel,
        country_code,
        cohort_month,
        order_count,
        net_revenue,
        revenue_per_order,
        active_days,
        ntile(5) over (order by net_revenue desc, customer_id) as value_quintile
    from buyers

)

select
    customer_id,
    marketing_channel,
    country_code,
    cohort_month,
    order_count,
    net_revenue,
    revenue_per_order,
    active_days,
    value_quintile,
    case
        when value_quintile = 1 then 'high'
        when value_quintile <= 3 then 'medium'
        else 'low'
    end as value_segment
from ranked
