from planted.gradient_flow_depth_sigmoid import plant as plant
