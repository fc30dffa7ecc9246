from planted.jacobian_magnitude import plant as plant
