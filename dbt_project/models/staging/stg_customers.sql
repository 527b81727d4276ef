with

customers as (

    select * from {{ ref('customers') }}

),

renamed as (

    select
        customer_id,
        first_name,
        last_name,
        first_name || ' ' || last_name as full_name,
        lower(email) as email,
        city,
        country_code,
        signup_date,
        marketing_channel,
        is_newsletter_subscriber
    from customers

)

select
    customer_id,
    first_name,
    last_name,
    full_name,
    email,
    city,
    country_code,
    signup_date,
    marketing_channel,
    is_newsletter_subscriber
from renamed
