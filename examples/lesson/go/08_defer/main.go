// defer: a function says goodbye, however it ends.
package main

import (
	"errors"
	"fmt"
)

var jobs, ended = make(chan int), make(chan string)

func divide(a, b int) (int, error) {
	if b == 0 {
		return 0, errors.New("division by zero")
	}
	return a / b, nil
}

func work() {
	defer func() { ended <- "the worker" }()
	for job := range jobs {
		result, err := divide(10, job)
		if err != nil {
			fmt.Println("10 cannot be divided by", job)
			return
		}
		fmt.Println("10 divided by", job, "is", result)
	}
}

func main() {
	go work()
	jobs <- 5
	jobs <- 0
	name := <-ended
	fmt.Println(name, "has ended")
}
