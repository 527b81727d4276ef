with

products as (

    select * from {{ ref('products') }}

)

select
    product_id,
    sku,
    product_name,
    category,
    unit_cost,
    list_price,
    launched_on,
    is_active
from products
