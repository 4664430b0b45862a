-- What the flow of this folder reads. PostgreSQL's image runs it once, when its volume is empty.

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    total numeric(12, 2) NOT NULL CHECK (total >= 0),
    status text NOT NULL DEFAULT 'placed'
);

INSERT INTO orders (customer, total) VALUES ('ada', 12.50), ('bob', 250.00), ('eve', 99.90);
