"""A company's office: mail, calendar, customers, orders, tasks and files behind function tools."""
